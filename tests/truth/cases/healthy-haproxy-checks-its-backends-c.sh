#: title = "haproxy is idle, and checks a web server and a redis five times a second: http, redis PING, bare connect; seen from the balancer"
#: kind = "K4"
#: needs = ["haproxy", "nginx", "redis-server"]
#: seconds = 9
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-haproxy-checks-its-backends
