#: title = "apache restarts gracefully while ab sends short connections"
#: kind = "K4"
#: needs = ["apache2", "ab"]
#: seconds = 10
#: look_from = "s"
#: doctor = [[]]
#: healthy = true
pair
M=/usr/lib/apache2/modules; mkdir "$W/www"; head -c 20000 /dev/zero >"$W/www/f"; chmod -R a+rX "$W"
cat >"$W/a.conf" <<A
ServerRoot $W
ServerName x
PidFile $W/a.pid
ErrorLog $W/e
Listen 10.77.0.2:80
User www-data
Group www-data
LoadModule mpm_event_module $M/mod_mpm_event.so
LoadModule authz_core_module $M/mod_authz_core.so
DefaultRuntimeDir $W
DocumentRoot $W/www
GracefulShutdownTimeout 30
A
bg $S apache2 -f "$W/a.conf" -DFOREGROUND
listens $S 80
bg $C ab -r -q -t 30 -n 1000000 -c 8 http://10.77.0.2/f
# A client in the middle of its request: the old child waits for it.
bg $C bash -c 'exec 3<>/dev/tcp/10.77.0.2/80; printf "GET /f HTTP/1.1\r\n" >&3; sleep 40'
sleep 1.5
within $S apache2 -f "$W/a.conf" -k graceful
sleep 0.5
ready
