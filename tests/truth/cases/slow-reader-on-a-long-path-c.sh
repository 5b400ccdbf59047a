#: title = "a reader takes 800 KB a second over 80 ms; the kernel has chosen its buffer; seen from its sender alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 10
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "reader-slow"
#: never_cause = ["buffer-fixed", "buffer-at-limit"]
#: severity_at_most = "info"
same healthy-slow-reader-on-a-long-path
