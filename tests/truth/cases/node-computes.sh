#: title = "node: a request computes without end, the loop does not come back to accept()"
#: kind = "K2"
#: needs = ["node", "python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: cause = "busy-loop"
#: severity_at_least = "high"
one
bg $C node -e '
require("http").createServer((q,r)=>{ while(1); }).listen(9400,"127.0.0.1")'
listens $C 9400
bg $C python3 -c '
import socket,time
k=[]
for i in range(5):
    s=socket.create_connection(("127.0.0.1",9400)); s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); k.append(s); time.sleep(0.2)
time.sleep(60)'
sleep 4
ready
