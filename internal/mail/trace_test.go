package mail

import "testing"

func TestPasses(t *testing.T) {
	const host = "mx1.example.com"
	tests := []struct {
		name, value string
		want        int
	}{
		{"ours", "from a (b [192.0.2.1])\r\n\tby mx1.example.com (Gatepost) with ESMTP id x; date", 1},
		{"in another case", "from a BY MX1.Example.COM; date", 1},
		{"with a final dot", "by mx1.example.com.; date", 1},
		{"without more", "by mx1.example.com;date", 0}, // no white space: not how we write it
		{"another host", "from mx1.example.com by mx2.example.com; date", 0},
		{"a longer name", "by xmx1.example.com by mx1.example.com.evil.test; date", 0},
		{"twice in one field", "by mx1.example.com by mx1.example.com; date", 1},
		{"empty", "", 0},
	}
	for _, tt := range tests {
		h, _, err := SplitHeader([]byte("Received: " + tt.value + "\r\nX-Received: by mx1.example.com; x\r\nSubject: by mx1.example.com\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Passes(host); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
