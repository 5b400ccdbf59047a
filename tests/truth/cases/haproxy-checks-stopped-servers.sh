#: title = "all three servers behind haproxy are stopped: it checks each in vain, and answers every request with 503"
#: kind = "K4"
#: needs = ["haproxy", "nginx", "curl"]
#: seconds = 9
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "haproxy"
#: cause = "refused"
#: severity_at_least = "warning"
checked_servers
