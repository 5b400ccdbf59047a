#: title = "HTTPS clients read what they need and close: the close_notify of nginx meets a reset, twenty times a second; seen from the clients"
#: kind = "K4"
#: needs = ["python3", "nginx", "openssl"]
#: seconds = 12
#: look_from = "c"
#: doctor = [[], ["--once"], ["--trace", "2s"]]
#: healthy = true
same healthy-tls-clients-close-early
