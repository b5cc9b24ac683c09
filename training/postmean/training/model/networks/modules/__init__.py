"""The torch modules of the networks. The settings beside this folder import them when they build one."""
