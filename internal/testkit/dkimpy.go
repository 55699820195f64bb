package testkit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// DKIMPy is python3-dkim, another reading of the standards: it signs and verifies
// mail, chains included.
type DKIMPy struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// debianPython is the one that Debian's modules are for.
const debianPython = "/usr/bin/python3"

// NewDKIMPy starts it for the length of a test. python3-dkim missing skips the
// test; in CI it fails it.
func NewDKIMPy(t T) *DKIMPy {
	t.Helper()
	if _, err := os.Stat("/usr/lib/python3/dist-packages/dkim/__init__.py"); err != nil {
		Need(t, &MissingError{"python3-dkim", "python3-dkim"})
	}
	p := &DKIMPy{cmd: exec.Command(debianPython, "-c", dkimpyScript)}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatalf("dkimpy: %v", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("dkimpy: %v", err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("dkimpy: %v", err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = p.cmd.Wait()
	})
	return p
}

// pyRequest is one line to the script; the message is in base64, by JSON.
type pyRequest struct {
	Do       string            `json:"do"`
	Message  []byte            `json:"message"`
	Records  map[string]string `json:"records"` // TXT, by name without a dot at the end
	Key      string            `json:"key"`     // PEM
	Selector string            `json:"selector"`
	Domain   string            `json:"domain"`
	Host     string            `json:"host"`
	Kind     string            `json:"kind"`
}

type pyAnswer struct {
	OK     bool     `json:"ok"`
	Value  string   `json:"value"`
	Fields []string `json:"fields"`
	Error  string   `json:"error"`
}

func (p *DKIMPy) ask(r pyRequest) (a pyAnswer, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	if _, err := p.in.Write(append(text, '\n')); err != nil {
		return a, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("dkimpy: %w", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// Verify reports whether all signatures of a message hold; an error says why it
// can't be told.
func (p *DKIMPy) Verify(message []byte, records map[string]string) (bool, error) {
	a, err := p.ask(pyRequest{Do: "verify", Message: message, Records: records})
	return a.OK, err
}

// VerifyARC returns what cv of a chain is: "pass", "fail", "none".
func (p *DKIMPy) VerifyARC(message []byte, records map[string]string) (string, error) {
	a, err := p.ask(pyRequest{Do: "arc_verify", Message: message, Records: records})
	return a.Value, err
}

// Sign returns a DKIM-Signature; kind is rsa-sha256 or ed25519-sha256. The key is
// PEM, or of Ed25519 its seed in base64.
func (p *DKIMPy) Sign(message []byte, domain, selector, key, kind string) (string, error) {
	a, err := p.ask(pyRequest{Do: "sign", Message: message, Domain: domain, Selector: selector, Key: key, Kind: kind})
	if err != nil {
		return "", err
	}
	return a.Value, nil
}

// Seal returns the message with one more set, whose results are those that host
// wrote into Authentication-Results: what they say of arc is taken for true.
func (p *DKIMPy) Seal(message []byte, domain, selector, key, host string) ([]byte, error) {
	a, err := p.ask(pyRequest{Do: "arc_sign", Message: message, Domain: domain, Selector: selector, Key: key, Host: host})
	if err != nil {
		return nil, err
	}
	var sealed []byte
	for _, f := range a.Fields {
		sealed = append(sealed, f...)
	}
	return append(sealed, message...), nil
}

const dkimpyScript = `
import base64, json, sys
import dkim

for line in sys.stdin:
    r = json.loads(line)
    message = base64.b64decode(r["message"])
    records = r["records"] or {}
    def dns(name, timeout=5):
        text = records.get(name.decode().rstrip("."))
        return text.encode() if text is not None else None
    answer = {}
    try:
        if r["do"] == "verify":
            d = dkim.DKIM(message)
            n = max(1, sum(1 for k, _ in d.headers if k.lower() == b"dkim-signature"))
            answer["ok"] = all(d.verify(idx=i, dnsfunc=dns) for i in range(n))
        elif r["do"] == "arc_verify":
            cv, sets, why = dkim.arc_verify(message, dnsfunc=dns)
            answer["value"] = (cv or b"").decode()
        elif r["do"] == "sign":
            answer["value"] = dkim.sign(message, r["selector"].encode(), r["domain"].encode(), r["key"].encode(),
                signature_algorithm=r["kind"].encode(), canonicalize=(b"relaxed", b"relaxed")).decode()
        elif r["do"] == "arc_sign":
            fields = dkim.arc_sign(message, r["selector"].encode(), r["domain"].encode(), r["key"].encode(), r["host"].encode())
            answer["fields"] = [f.decode() for f in fields]
    except Exception as e:
        answer["error"] = type(e).__name__ + ": " + str(e)
    print(json.dumps(answer), flush=True)
`
