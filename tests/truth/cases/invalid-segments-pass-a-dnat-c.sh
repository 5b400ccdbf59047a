#: title = "a service behind a DNAT sends segments beyond the window, which pass untranslated; seen from its clients alone"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 9
#: also = ["abort-storm"]
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "python3"
#: destination = "10.96.0.1:80"
#: cause = "untranslated"
#: severity_at_least = "warning"
#: said = ["10.77.2.2:8080"]
same invalid-segments-pass-a-dnat
