#: title = "two threads of a Java server wait for each other's lock; the peer goes on sending"
#: kind = "K2"
#: needs = ["java", "javac", "nc"]
#: seconds = 25
#: look_from = "s"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "java"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
cat >"$W/Srv.java" <<'A'
import java.net.*; import java.io.*;
public class Srv {
  static final Object a = new Object(), b = new Object();
  static void lock(Object x, Object y) throws Exception { synchronized (x) { Thread.sleep(500); synchronized (y) { System.out.println("never"); } } }
  public static void main(String[] v) throws Exception {
    ServerSocket l = new ServerSocket(7000, 50, InetAddress.getByName("10.77.0.2"));
    for (int i = 0; ; i++) { Socket s = l.accept(); final int n = i;
      new Thread(() -> { try { InputStream in = s.getInputStream(); byte[] p = new byte[8192];
        for (int k = 0; ; k++) { in.read(p); if (k == 100) { if (n % 2 == 0) lock(a, b); else lock(b, a); } } } catch (Exception e) { e.printStackTrace(); } }).start(); } } }
A
javac -d "$W" "$W/Srv.java" >>"$W/out" 2>&1 || exit 1
bg $S java -cp "$W" Srv
listens $S 7000
for i in 1 2; do bg $C bash -c 'head -c 1000000000 /dev/zero | nc 10.77.0.2 7000'; done
sleep 13
ready
