#: title = "Java's HttpClient keeps ten connections to Java's HttpServer; a request each 50 ms, the rest of the pool is idle"
#: kind = "K4"
#: needs = ["java", "javac"]
#: seconds = 25
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/Srv.java" <<'A'
import com.sun.net.httpserver.*; import java.net.*; import java.util.concurrent.*;
public class Srv { public static void main(String[] a) throws Exception {
  HttpServer s = HttpServer.create(new InetSocketAddress("10.77.0.2", 8080), 50);
  s.setExecutor(Executors.newFixedThreadPool(16));
  s.createContext("/", x -> { try { Thread.sleep(20); } catch (InterruptedException e) {} x.sendResponseHeaders(200, 2); x.getResponseBody().write("ok".getBytes()); x.close(); });
  s.start(); } }
A
cat >"$W/Cli.java" <<'A'
import java.net.*; import java.net.http.*; import java.util.*; import java.util.concurrent.*;
public class Cli { public static void main(String[] a) throws Exception {
  HttpClient c = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  HttpRequest q = HttpRequest.newBuilder(URI.create("http://10.77.0.2:8080/")).build();
  List<CompletableFuture<?>> f = new ArrayList<>();
  for (int i = 0; i < 10; i++) f.add(c.sendAsync(q, HttpResponse.BodyHandlers.ofString()));
  for (CompletableFuture<?> x : f) x.get();
  System.out.println("pool");
  for (int i = 0; i < 1000; i++) { c.send(q, HttpResponse.BodyHandlers.ofString()); Thread.sleep(50); } } }
A
javac -d "$W" "$W/Srv.java" "$W/Cli.java" >>"$W/out" 2>&1 || exit 1
bg $S java -cp "$W" Srv
listens $S 8080
bg $C java -cp "$W" Cli
for _ in $(seq 100); do grep -q pool "$W/out" && break; sleep 0.1; done
sleep 2
ready
