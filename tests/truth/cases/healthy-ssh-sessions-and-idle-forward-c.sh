#: title = "sshd with two idle sessions, a local forward and a remote forward, each with an idle connection through it; seen from the client"
#: kind = "K4"
#: needs = ["sshd", "ssh", "ssh-keygen", "nc"]
#: seconds = 12
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-ssh-sessions-and-idle-forward
