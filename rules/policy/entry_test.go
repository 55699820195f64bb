package policy

import "testing"

func TestEntries(t *testing.T) {
	tests := []struct {
		name   string
		kind   ListType
		text   string
		want   string
		refuse bool
	}{
		{"a URL, defanged", ListHost, "hxxps://Login[.]evil[.]example:8443/x?y", "login.evil.example", false},
		{"a host with a path", ListHost, "evil.example/x", "evil.example", false},
		{"a host in brackets", ListDomain, "<evil(.)example>", "evil.example", false},
		{"an address", ListAddress, "Bad[@]evil[.]example", "bad@evil.example", false},
		{"mailto", ListAddress, "mailto:bad@evil.example", "bad@evil.example", false},
		{"a network with host bits", ListCIDR, "192.0.2[.]7/24", "192.0.2.0/24", false},
		{"an address of IPv6", ListCIDR, "2001:DB8::1", "2001:db8::1/128", false},
		{"a hash", ListHash, "275A021BBFB6489E54D471899F7DB9D1663FC695EC2FE2A2C4538AABF651FD0F", "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f", false},
		{"no hash", ListHash, "275a", "", true},
		{"no host", ListHost, "evil example", "", true},
		{"no address", ListAddress, "evil.example", "", true},
	}
	for _, tt := range tests {
		e, err := ReadEntry(tt.kind, Refang(tt.kind, tt.text))
		if e.Key != tt.want && !tt.refuse || (err != nil) != tt.refuse {
			t.Errorf("%s: %q, %v; want %q", tt.name, e.Key, err, tt.want)
		}
	}
	e, err := ReadEntry(ListString, "x until=2026-12-31T00:00:00Z ticket=A note=until tomorrow # why")
	if err != nil || e.Key != "x" || e.Until.IsZero() || e.More != "until=2026-12-31T00:00:00Z ticket=A note=until tomorrow" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := ReadEntry(ListString, "x until=soon"); err == nil {
		t.Error("until=soon is taken")
	}
}
