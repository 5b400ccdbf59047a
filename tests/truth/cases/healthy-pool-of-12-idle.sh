#: title = "an idle keep-alive pool of 12 whose server closed after 5 s"
#: kind = "K4"
#: needs = ["python3", "nginx"]
#: seconds = 80
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ulimit -Sn 1024
printf 'daemon off; pid %s/p; error_log /dev/null; events {} http { access_log off; keepalive_timeout 5s; server { listen 80; return 200 x; } }' $W >$W/n; bg $S nginx -c $W/n; listens $S 80
bg $C python3 -c '
import http.client,time
l=[]
for i in range(12):
    c=http.client.HTTPConnection("10.77.0.2"); c.request("GET","/"); c.getresponse().read(); l.append(c)
time.sleep(200)'
sleep 68
ready
