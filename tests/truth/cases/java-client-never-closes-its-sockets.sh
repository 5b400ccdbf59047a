#: title = "a Java client opens a Socket per request and drops it unclosed; nginx closes its side after a second"
#: kind = "K2"
#: needs = ["java", "javac", "nginx"]
#: seconds = 25
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "java"
#: destination = "10.77.0.2:80"
#: severity_at_least = "warning"
#: severity_at_most = "high"
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 2048; }
http { access_log off; keepalive_timeout 1; server { listen 10.77.0.2:80; return 200 ok; } }
A
cat >"$W/Cli.java" <<'A'
import java.net.*; import java.util.*;
public class Cli { static List<Socket> kept = new ArrayList<>();
  public static void main(String[] a) throws Exception {
    for (int i = 0; i < 2000; i++) { Socket s = new Socket("10.77.0.2", 80); kept.add(s);
      s.getOutputStream().write("GET / HTTP/1.1\r\nHost: x\r\n\r\n".getBytes()); s.getInputStream().read(new byte[4096]); Thread.sleep(100); } } }
A
javac -d "$W" "$W/Cli.java" >>"$W/out" 2>&1 || exit 1
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C java -cp "$W" Cli
sleep 8
ready
