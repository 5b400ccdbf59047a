#: title = "a node client with a keep-alive agent of ten sockets calls a node server thirty times a second"
#: kind = "K4"
#: needs = ["node"]
#: seconds = 10
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S node -e 'require("http").createServer((q, r) => setTimeout(() => r.end("ok"), 30)).listen(3000, "10.77.0.2")'
listens $S 3000
bg $C node -e '
const http = require("http"), agent = new http.Agent({ keepAlive: true, maxSockets: 10 });
setInterval(() => http.get({ host: "10.77.0.2", port: 3000, agent }, (r) => r.resume()), 33)'
sleep 3
ready
