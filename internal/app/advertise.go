package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
)

// hostName is a DNS name: what else could be meant, a URL or an address with its port, is refused.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// checkAdvertised refuses addresses that nobody else could use: a node that listens everywhere is reached somewhere.
func (o *ServeOptions) checkAdvertised() error {
	var errs []error
	if _, err := netip.ParseAddr(o.AdvertiseHost); o.AdvertiseHost != "" && err != nil && !hostName.MatchString(o.AdvertiseHost) {
		errs = append(errs, fmt.Errorf("--advertise-host %q: a host name or an IP address is needed, without a port", o.AdvertiseHost))
	}
	for _, a := range []struct{ flag, addr string }{{"--cluster-addr", o.ClusterAddr}, {"--peer-addr", o.PeerAddr}} {
		if wildcard(a.addr) && o.AdvertiseHost == "" {
			errs = append(errs, fmt.Errorf("%s %s listens everywhere, so other nodes must be told where to find this one: "+
				"give --advertise-host HOST", a.flag, a.addr))
		}
	}
	if wildcard(o.ClientAddr) && o.AdvertiseURL == "" {
		errs = append(errs, fmt.Errorf("--client-addr %s listens everywhere, so clients must be told where to find this node: "+
			"give --advertise-url ws://HOST:PORT/v1/connect", o.ClientAddr))
	}
	return errors.Join(errs...)
}

// wildcard says whether an address is all of the machine's.
func wildcard(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // checkAddr says so
	}
	ip, err := netip.ParseAddr(host)
	return host == "" || (err == nil && ip.IsUnspecified())
}

// advertised is where others reach what listens at addr.
func (o *ServeOptions) advertised(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if o.AdvertiseHost == "" || err != nil {
		return addr
	}
	return net.JoinHostPort(o.AdvertiseHost, port)
}
