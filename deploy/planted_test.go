package deploy

import (
	"strings"
	"testing"
)

// TestComposeRulesFind breaks the file in one place at a time; each rule must say so.
func TestComposeRulesFind(t *testing.T) {
	text := read(t, "compose.yaml")
	for _, p := range []struct{ old, new, says string }{
		{"    restart: unless-stopped\n", "    restrat: unless-stopped\n", "restrat"},
		{"ROAM_DATA: /data\n", "ROAM_DATE: /data\n", "knows no ROAM_DATE"},
		{"ROAM_SECRET_FILE: /run/secrets/ring\n", "ROAM_SECRET_FILE: /run/secrets/rings\n", "not among its secrets"},
		{"ROAM_CLIENT_ADDR: 0.0.0.0:8080\n", "ROAM_CLIENT_ADDR: 8080\n", "--client-addr"},
		{"command: [serve]\n", "command: [serve, --colour, red]\n", "--colour"},
		{"ROAM_ADVERTISE_HOST: b2.roam,", "", "--advertise-host"},
		{"b1.roam:7946,b2.roam:7946", "b1.roam:7946", "does not join b2"},
		{"s3.roam:7946\n", "s3.roam:7947\n", "gossips at"},
		{"aliases: [s3.roam]", "aliases: [s3.rome]", "cannot reach s3.roam"},
		{"ROAM_NODE: b2, ROAM_ADVERTISE_HOST: b2.roam", "ROAM_NODE: b2, ROAM_ADVERTISE_HOST: b3.roam", "b2 advertises b3.roam"},
		{"ROAM_NODE: b2,", "ROAM_NODE: b1,", "same node beijing/b1"},
		{`["b2:/data"]`, `["b1:/data"]`, "same volume b1"},
		{`["b2:/data"]`, `["./b2:/data"]`, "in no named volume"},
		{`BOOTSTRAP_EXPECT: "3"`, `BOOTSTRAP_EXPECT: "1"`, "expects 1 nodes"},
		{"redis://redis.beijing:6379\n", "redis://redis.shanghai:6379\n", "cannot reach redis.shanghai"},
		{"redis://redis.beijing:6379\n", "redis://redis.beijing:6380\n", "has its Redis at"},
		{"{aliases: [redis.beijing]}}", "{aliases: [redis.beijing]}, roam: {}}", "can reach redis-beijing"},
		{`"127.0.0.1:8081:8080"`, `"8081:8080"`, "to the world"},
		{`"127.0.0.1:8081:8080"`, `"127.0.0.1:8081:8081"`, "its client port"},
		{`"127.0.0.1:8082:8080"`, `"127.0.0.1:8084:8080"`, "and is published at"},
		{`"127.0.0.1:9090:9090"`, `"127.0.0.1:8093:9090"`, "publish 8093"},
		{"stop_grace_period: 30s", "stop_grace_period: 10s", "is killed before"},
		{"  command: [worker]\n  restart: unless-stopped\n", "  command: [worker]\n", "stays down"},
		{"cap_drop: [ALL]", "cap_drop: [NET_RAW]", "not confined"},
		{`user: "999:1000"`, `user: "0:0"`, "runs as root"},
		{"prom/prometheus:v2.53.3", "prom/prometheus:latest", "name a version"},
	} {
		broken := strings.Replace(text, p.old, p.new, 1)
		if broken == text {
			t.Errorf("%q is not in the file: nothing was planted", p.old)
			continue
		}
		if found := strings.Join(check(t, broken), "\n"); !strings.Contains(found, p.says) {
			t.Errorf("with %q no rule says %q; found: %s", p.new, p.says, found)
		}
	}
}
