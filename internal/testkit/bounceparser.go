package testkit

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// ParsedBounce is a notification as Mail::DeliveryStatus::BounceParser reads it,
// which mailing lists use.
type ParsedBounce struct {
	IsBounce  bool
	MessageID string              // of what bounced
	Reports   []map[string]string // of each recipient, by keys like "email", "std_reason", "smtp_code"
}

const bounceScript = `
use Mail::DeliveryStatus::BounceParser;
my $b = Mail::DeliveryStatus::BounceParser->new(\*STDIN);
print "bounce\t", ($b->is_bounce ? 1 : 0), "\n", "id\t", ($b->orig_message_id // ""), "\n";
for my $r ($b->is_bounce ? $b->reports : ()) {
	print "report\n";
	for my $k (qw(email std_reason smtp_code final_recipient action status diagnostic_code)) {
		my $v = $r->get($k) // "";
		$v =~ s/\s+/ /g;
		print "$k\t$v\n";
	}
}
`

// ParseBounce runs that parser.
func ParseBounce(message []byte) (ParsedBounce, error) {
	const pkg = "libmail-deliverystatus-bounceparser-perl"
	perl, err := find("perl", "perl")
	if err != nil {
		return ParsedBounce{}, err
	}
	if err := exec.Command(perl, "-MMail::DeliveryStatus::BounceParser", "-e", "1").Run(); err != nil {
		return ParsedBounce{}, &MissingError{"Mail::DeliveryStatus::BounceParser", pkg}
	}
	cmd := exec.Command(perl, "-e", bounceScript)
	var said bytes.Buffer
	// It reads files as they are on Unix.
	cmd.Stdin, cmd.Stderr = bytes.NewReader(bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))), &said
	out, err := cmd.Output()
	if err != nil {
		return ParsedBounce{}, fmt.Errorf("testkit: bounce parser: %w\n%s", err, said.Bytes())
	}
	var b ParsedBounce
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		switch value = strings.TrimSpace(value); key {
		case "bounce":
			b.IsBounce = value == "1"
		case "id":
			b.MessageID = value
		case "report":
			b.Reports = append(b.Reports, map[string]string{})
		default:
			b.Reports[len(b.Reports)-1][key] = value
		}
	}
	return b, nil
}
