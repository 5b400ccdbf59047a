#: title = "a node server with allowHalfOpen never calls end(): every client that left stays in CLOSE_WAIT"
#: kind = "K2"
#: needs = ["node", "nc"]
#: seconds = 12
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "node"
#: listener = ":3000"
#: severity_at_least = "warning"
#: severity_at_most = "high"
pair
bg $S node -e '
require("net").createServer({ allowHalfOpen: true }, (c) => { c.on("error", () => 0); c.on("data", () => c.write("ok\n")); }).listen(3000, "10.77.0.2")'
listens $S 3000
bg $C bash -c 'while :; do (exec 3<>/dev/tcp/10.77.0.2/3000; echo hello >&3; read -r x <&3); sleep 0.1; done'
sleep 6
ready
