#: title = "a gunicorn worker dies at each request; seen from the client"
#: kind = "K7"
#: needs = ["gunicorn", "/usr/bin/python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "python3"
#: destination = "10.77.0.2:8000"
#: severity_at_least = "info"
same workers-crash-at-each-request
