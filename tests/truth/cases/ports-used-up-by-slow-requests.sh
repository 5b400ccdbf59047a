#: title = "a client without a limit of connections waits for a slow backend with all ports of its range"
#: kind = "K1"
#: needs = ["node"]
#: seconds = 7
#: doctor = [[], ["--once"]]
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["ephemeral-port-exhaustion"]
#: comm = "node"
#: destination = "10.77.0.2:80"
#: severity_at_least = "critical"
#: said = ["fails now"]
#: never_said = ["IP_BIND_ADDRESS_NO_PORT"]
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30199"
bg $S node -e 'require("http").createServer((q,r)=>setTimeout(()=>r.end("late"),60000)).listen(80,"10.77.0.2",511)'
listens $S 80
bg $C node -e '
process.title="node"
setInterval(()=>require("http").get({host:"10.77.0.2",agent:new (require("http").Agent)()}).on("error",()=>{}),8)'
sleep 3
ready
