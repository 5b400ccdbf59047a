#: title = "apache with mpm_prefork, eight idle children, three idle keep-alive clients"
#: kind = "K4"
#: needs = ["apache2", "python3"]
#: seconds = 10
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
M=/usr/lib/apache2/modules; mkdir "$W/www"; echo hello >"$W/www/index.html"; chmod -R a+rX "$W"
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
LoadModule dir_module $M/mod_dir.so
DefaultRuntimeDir $W
DocumentRoot $W/www
StartServers 8
MinSpareServers 8
KeepAlive On
KeepAliveTimeout 60
A
bg $S apache2 -f "$W/a.conf" -DFOREGROUND
listens $S 80
bg $C python3 -c '
import http.client,time
k=[http.client.HTTPConnection("10.77.0.2",80) for i in range(3)]
for h in k: h.request("GET","/"); h.getresponse().read()
time.sleep(60)'
sleep 2.5
ready
