#: title = "a program that a server starts for each request inherits the connection, and ends a second later"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
helper_seconds=1
same helpers-inherit-the-connections
