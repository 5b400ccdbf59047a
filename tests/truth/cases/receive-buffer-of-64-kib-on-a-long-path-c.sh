#: title = "a receiver has set SO_RCVBUF to 64 KiB on a path of 80 ms; seen from its sender alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 13
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "buffer-fixed"
#: never_cause = ["reader-slow", "buffer-at-limit"]
#: severity_at_most = "info"
same receive-buffer-of-64-kib-on-a-long-path
