#: title = "six idle pooled TLSv1_2 connections: close_notify and FIN are unread"
#: kind = "K2"
#: needs = ["python3", "openssl"]
#: seconds = 80
#: doctor = [[], ["--once"]]
#: healthy = true
pair
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=t -keyout $W/k -out $W/c >/dev/null 2>&1
cat >$W/s.py <<'P'
import socket,ssl,time,sys
c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.maximum_version=getattr(ssl.TLSVersion,sys.argv[3]); c.load_cert_chain(sys.argv[1],sys.argv[2])
l=socket.create_server(("10.77.0.2",443))
while 1:
    s,_=l.accept(); t=c.wrap_socket(s,server_side=True); t.recv(100); t.sendall(b"ok"); time.sleep(0.1); t.settimeout(0.05)
    try: t.unwrap()
    except Exception: pass
    t.close()
P
cat >$W/c.py <<'P'
import socket,ssl,time
x=ssl._create_unverified_context(); k=[]
for i in range(6):
    t=x.wrap_socket(socket.create_connection(("10.77.0.2",443))); t.sendall(b"hi"); t.recv(2); k.append(t)
time.sleep(300)
P
bg $S python3 $W/s.py $W/c $W/k TLSv1_2; listens $S 443; bg $C python3 $W/c.py
sleep 66
ready
