# shellcheck shell=bash disable=SC2034  # read by the scripts beside it
# Lists the tests for other releases of dependencies: each dependency is used, and a bundle is built, deployed to a
# virtual phone, fetched and evaluated.
CORE_MARKS="not slow and not genuine"
CORE_TESTS=(
  tests/test_{bad_models,bundle,cli,console,convert,demo_model,deploy,dlc,features,first_light,graph,hub}.py
  tests/test_{platforms,probe,quantize,questions,report,sdk_get,spans,startup}.py
)
