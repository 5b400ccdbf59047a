#: title = "node closes idle connections after a second; a pool of twenty uses them again after two, and each use fails"
#: kind = "K2"
#: needs = ["node", "python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["reset-source"]
#: listener = "10.77.0.2:3000"
#: cause = "closed-before"
#: never_said = ["NAT", "was restarted"]
pair
cat >"$W/s.js" <<A
const s = require('http').createServer((q, r) => r.end('ok')); s.keepAliveTimeout = 1000; s.listen(3000, '10.77.0.2');
A
bg $S node "$W/s.js"
listens $S 3000
bg $C python3 -c '
import http.client,threading,time
def f(i):
    time.sleep(i*.15); h=http.client.HTTPConnection("10.77.0.2",3000)
    while 1:
        try: h.request("GET","/"); h.getresponse().read()
        except OSError: h.close()
        time.sleep(3)
for i in range(20): threading.Thread(target=f,args=(i,)).start()'
sleep 4.5
ready
