"""A phone in software that genuine adb talks to: storage, shell, sync and stand-ins for Qualcomm's programs."""
