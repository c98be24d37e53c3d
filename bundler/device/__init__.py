"""The phone at the other end of adb."""
