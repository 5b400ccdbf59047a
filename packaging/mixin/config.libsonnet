// What a site changes: (import 'mixin.libsonnet') + { _config+:: { tags: ['tcp', 'network'] } }
{
  _config+:: {
    title: 'tcpstate',
    uid: 'tcpstate',
    tags: ['tcp', 'network'],
    refresh: '30s',
    from: 'now-3h',
    // The series of the hosts that are chosen at the top of the dashboard.
    host: 'instance=~"$instance"',
  },
}
