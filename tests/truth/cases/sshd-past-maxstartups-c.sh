#: title = "sshd past MaxStartups, seen from the host whose logins it turns away"
#: kind = "K7"
#: needs = ["sshd", "ssh-keygen", "/usr/bin/python3"]
#: seconds = 9
#: also = ["recv-queue-stuck"]
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "python3"
#: destination = "10.77.0.2:2222"
#: cause = "own-limit"
#: severity_at_least = "warning"
same sshd-past-maxstartups
