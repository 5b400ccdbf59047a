#: title = "slow clients hold all four children of apache prefork; other clients wait for accept()"
#: kind = "K2"
#: needs = ["apache2", "python3"]
#: seconds = 14
#: look_from = "s"
#: also = ["slow-requests"]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "apache2"
#: listener = "10.77.0.2:80"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
M=/usr/lib/apache2/modules; mkdir "$W/www"; echo hello >"$W/www/f"; chmod -R a+rX "$W"
cat >"$W/a.conf" <<A
ServerRoot $W
ServerName x
PidFile $W/a.pid
ErrorLog $W/e
Listen 10.77.0.2:80
User www-data
Group www-data
LoadModule mpm_prefork_module $M/mod_mpm_prefork.so
LoadModule authz_core_module $M/mod_authz_core.so
DefaultRuntimeDir $W
DocumentRoot $W/www
StartServers 4
ServerLimit 4
MaxRequestWorkers 4
A
bg $S apache2 -f "$W/a.conf" -DFOREGROUND
listens $S 80; sleep 0.5
bg $C python3 -c '
import socket,time
slow=[socket.create_connection(("10.77.0.2",80)) for i in range(4)]
for s in slow: s.sendall(b"GET /f HTTP/1.1\r\n")
time.sleep(1)
k=[socket.create_connection(("10.77.0.2",80)) for i in range(20)]
for s in k: s.sendall(b"GET /f HTTP/1.0\r\n\r\n")
while 1:
    for s in slow: s.sendall(b"X: y\r\n")
    time.sleep(1)'
sleep 5.5
ready
