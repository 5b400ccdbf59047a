#: title = "monitors of redis and memcached ask, say quit and get a line and the end, beside twenty unused connections of a pool"
#: kind = "K7"
#: needs = ["redis-server", "memcached", "/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
bg $S memcached -u nobody -l 10.77.0.2
listens $S 6379; listens $S 11211
bg $C /usr/bin/python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",p)) for p in (6379,11211) for _ in range(20)]
while 1:
    for port,says in ((6379,b"PING\r\nQUIT\r\n"),(11211,b"version\r\nquit\r\n")):
        s=socket.create_connection(("10.77.0.2",port)); s.sendall(says)
        while s.recv(100): pass
        s.close()
    time.sleep(.2)'
sleep 3
ready
