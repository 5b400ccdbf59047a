#: title = "nothing listens: a hundred refused connects a second; seen without privileges"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 9
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures"]
#: severity_at_least = "warning"
same refused-storm
