#: title = "HTTPS clients read what they need and close: the close_notify of nginx meets a reset, twenty times a second; seen from the clients"
#: kind = "K4"
#: needs = ["python3", "nginx", "openssl"]
#: seconds = 12
#: look_from = "c"
#: doctor = [[], ["--once"], ["--trace", "2s"]]
#: healthy = true
pair; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=t -keyout $W/k -out $W/c >/dev/null 2>&1
printf 'daemon off; pid %s/p; error_log /dev/null; events {} http { access_log off; server { listen 443 ssl; ssl_certificate %s/c; ssl_certificate_key %s/k; return 200 x; } }' $W $W $W >$W/n
bg $S nginx -c $W/n; listens $S 443
bg $C python3 -c '
import socket,ssl,time
x=ssl._create_unverified_context()
while 1:
    t=x.wrap_socket(socket.create_connection(("10.77.0.2",443)))
    t.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); t.recv(4096); time.sleep(0.03); t.close()'
sleep 3
ready
