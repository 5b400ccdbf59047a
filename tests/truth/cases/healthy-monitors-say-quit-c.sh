#: title = "the same monitors of redis and memcached, seen from their own host"
#: kind = "K7"
#: needs = ["redis-server", "memcached", "/usr/bin/python3"]
#: seconds = 9
#: healthy = true
same healthy-monitors-say-quit
