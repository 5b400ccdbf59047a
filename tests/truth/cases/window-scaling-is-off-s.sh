#: title = "the same from the sender: the connection has no window scaling, and the window is full"
#: kind = "K7"
#: needs = ["nginx", "curl", "python3"]
#: seconds = 12
#: look_from = "s"
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "nginx"
#: cause = "no-window-scaling"
#: never_said = ["SO_RCVBUF"]
#: severity_at_most = "info"
same window-scaling-is-off-c
