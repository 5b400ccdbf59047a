#: title = "a threaded server deadlocks before it reads: four clients wait for their answers"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 19
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "python3"
#: severity_at_least = "high"
#: never_cause = ["edge-not-drained", "worker-busy", "slow-reader"]
one
bg $C python3 -c '
import socketserver, threading
lock = threading.Lock(); lock.acquire()
class H(socketserver.BaseRequestHandler):
    def handle(self):
        with lock: self.request.recv(4096)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 9000), H).serve_forever()'
listens $C 9000
bg $C python3 -c '
import socket,time
k=[]
for i in range(4):
    s=socket.create_connection(("127.0.0.1",9000)); s.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i); k.append(s)
time.sleep(60)'
sleep 12
ready
