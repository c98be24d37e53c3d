from bundler.device.phone import AdbServer as AdbServer
from bundler.errors import BundlerError as BundlerError
from bundler.model.make import Recipe as Recipe
from bundler.pipeline.build import BuildRequest as BuildRequest
from bundler.pipeline.build import build_bundle as build_bundle
from bundler.pipeline.deploy import DeployRequest as DeployRequest
from bundler.pipeline.deploy import deploy_bundle as deploy_bundle
from bundler.pipeline.evaluate import EvaluateRequest as EvaluateRequest
from bundler.pipeline.evaluate import evaluate_bundles as evaluate_bundles
from bundler.pipeline.fetch import FetchRequest as FetchRequest
from bundler.pipeline.fetch import fetch_answers as fetch_answers
from bundler.qa.questions import open_questions as open_questions

__version__: str
