"""What qnn-net-run is to set on a phone's DSP: the file that its extension for the HTP reads."""

from bundler import layout
from bundler.device.job import Settings
from bundler.resources import templates
from bundler.soc import Soc

PROCESS_DOMAINS = {"unsignedPD:ON": "unsigned", "unsignedPD:OFF": "signed"}  # SNPE's words for it, and QNN's


def htp_settings(template: str, graph: str, soc: Soc | None, settings: Settings) -> tuple[str, str]:
    """The file's name in the bundle's folder on the phone, and its text. `soc` None: the HTP finds out by itself."""
    text = (
        templates(html=False)
        .get_template(template)
        .render(
            graph=graph,
            soc=soc,
            process_domain=PROCESS_DOMAINS.get(settings.platform_options, ""),
            perf_profile=settings.perf_profile,
        )
    )
    return layout.htp_settings(settings.perf_profile, settings.platform_options), text
