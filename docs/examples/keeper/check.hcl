# What stands in the config block of an application that may be started, stopped and killed on this machine.
command = ["/bin/sleep", "3600"]
