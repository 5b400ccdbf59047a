#: title = "thirty containers of one node send a log line a second each over TCP; the collector never answers"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 18
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S python3 -c '
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: pass
class S(socketserver.ThreadingTCPServer): request_queue_size=100
S(("10.77.0.2",601),H).serve_forever()'
listens $S 601
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",601)) for i in range(30)]
while 1:
    for n,s in enumerate(k): s.sendall(b"<14>1 app %d: still here\n"%n)
    time.sleep(1)'
sleep 8
ready
