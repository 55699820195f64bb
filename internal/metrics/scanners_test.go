package metrics

import (
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestSignatures(t *testing.T) {
	m := New("1")
	m.Signatures("clamav", "ClamAV 1.4.2/1", time.Now().Add(-48*time.Hour))
	m.Signatures("clamav", "ClamAV 1.4.3/2", time.Now().Add(-time.Hour))
	m.Signatures("other", "ClamAV 1.4.3", time.Time{})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Result().Body)
	text := string(body)
	for _, want := range []string{
		`(?m)^gatepost_filter_info\{filter="clamav",version="ClamAV 1.4.3/2"\} 1$`,
		`(?m)^gatepost_filter_info\{filter="other",version="ClamAV 1.4.3"\} 1$`,
		`(?m)^gatepost_clamav_signature_age_seconds\{filter="clamav"\} 3[67]`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "1.4.2") || strings.Contains(text, `age_seconds{filter="other"}`) {
		t.Errorf("too much: %s", text)
	}
}
