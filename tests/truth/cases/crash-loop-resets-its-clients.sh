#: title = "a server dies at each request and is started again after 0.1 s: its clients are reset or refused"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 10
#: look_from = "s"
#: also = ["closed-without-answer"]
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "restarted"
#: severity_at_least = "warning"
pair
cat >"$W/a.py" <<'X'
import socket,os
l=socket.socket(); l.setsockopt(1,2,1); l.bind(("10.77.0.2",8080)); l.listen(8)
c,_=l.accept(); c.recv(4096); os._exit(1)
X
bg $S sh -c "while :; do python3 '$W/a.py'; sleep 0.1; done"
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def one():
    try: s=socket.create_connection(("10.77.0.2",8080),5); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); s.recv(99); s.close()
    except OSError: pass
while 1:
    for _ in range(4): threading.Thread(target=one,daemon=True).start()
    time.sleep(0.3)'
sleep 5
ready
