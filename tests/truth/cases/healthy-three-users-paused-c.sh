#: title = "three of ten users of nginx paused their downloads a minute ago; seen from the clients"
#: kind = "K4"
#: needs = ["nginx", "curl"]
#: seconds = 80
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-three-users-paused-s
