#: title = "monitors cut their probes of a long-poll server by a reset; its handlers close theirs after 20 s, so that the number is bounded"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
bg $S python3 -c '
import socketserver,time
class H(socketserver.BaseRequestHandler):
    def handle(self): self.request.recv(99); time.sleep(20)
class T(socketserver.ThreadingTCPServer): allow_reuse_address=True; daemon_threads=True
T(("10.77.0.2",8000),H).serve_forever()'
listens $S 8000
bg $C python3 -c '
import socket,struct,time
while 1:
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); time.sleep(.2)
    s.setsockopt(1,13,struct.pack("ii",1,0)); s.close()'
sleep 5
ready
