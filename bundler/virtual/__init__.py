"""A phone made of software that genuine adb talks to: storage, shell, sync and stand-ins for Qualcomm's programs."""
