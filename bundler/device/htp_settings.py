"""Writes the settings of a phone's DSP for qnn-net-run: the file that its HTP extension reads."""

from bundler import layout
from bundler.device.job import Settings
from bundler.resources import templates
from bundler.soc import Soc

PROCESS_DOMAINS = {"unsignedPD:ON": "unsigned", "unsignedPD:OFF": "signed"}  # SNPE's words, and QNN's


def htp_settings(template: str, graph: str, soc: Soc | None, settings: Settings) -> tuple[str, str]:
    """Returns the file's name in the phone's bundle folder, and its text. `soc` None: the HTP detects the chip."""
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
