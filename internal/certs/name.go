package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// scheme is that of the URI in a certificate that names a node: roam://REGION/NODE.
const scheme = "roam"

// Name is how nodes are called here and in membership: region/node.
func Name(region, node string) string { return region + "/" + node }

func uriOf(name string) *url.URL {
	region, node, _ := strings.Cut(name, "/")
	return &url.URL{Scheme: scheme, Host: region, Path: "/" + node}
}

// nameOf returns whose certificate it is.
func nameOf(c *x509.Certificate) (name string, err error) {
	for _, u := range c.URIs {
		if u.Scheme != scheme {
			continue
		}
		if name != "" {
			return "", errors.New("the certificate names several nodes")
		}
		name = Name(u.Host, strings.TrimPrefix(u.Path, "/"))
	}
	if name == "" {
		return "", fmt.Errorf("the certificate (%s) names no node: a URI %s://REGION/NODE is missing among its alternative names",
			c.Subject, scheme)
	}
	return name, nil
}
