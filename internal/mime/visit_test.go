package mime

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// An error of who is shown the parts ends the walk, wherever it comes: nothing is
// shown any more.
func TestVisitEnds(t *testing.T) {
	zip := testkit.Zip("b.zip", testkit.Zip("c.tar", testkit.Tar("d.txt", []byte("inside"))))
	attachment := "--b\nContent-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(zip) + "\n"
	m := message(t, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n"+attachment+
		"--b\nContent-Type: message/rfc822\n\nSubject: x\n\nbegin 644 a.txt\n#0V%T\n`\nend\n"+strings.Replace(attachment, "\n\n", "\nX: y\n\n\n", 1)+"--b\n\nlast\n--b--\n")
	all := 0
	Walk(t.Context(), m, DefaultConfig(), func(mail.Part, io.Reader) error { all++; return nil })
	if all < 6 {
		t.Fatalf("only %d contents", all)
	}
	for last := 1; last <= all; last++ {
		visits := 0
		Walk(t.Context(), m, DefaultConfig(), func(p mail.Part, _ io.Reader) error {
			if visits++; visits >= last {
				return errors.New("enough")
			}
			return nil
		})
		if visits != last {
			t.Errorf("after an error at content %d of %d: %d were shown", last, all, visits)
		}
	}
}
