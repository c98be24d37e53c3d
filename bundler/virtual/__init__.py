"""A phone made of software that genuine adb talks to: storage, shell, sync and a stand-in for snpe-net-run."""
