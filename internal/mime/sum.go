package mime

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// summing reads and sums up what was read.
type summing struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

func newSum(r io.Reader) *summing { return &summing{r: r, sum: sha256.New()} }

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *summing) hex() string { return hex.EncodeToString(s.sum.Sum(nil)) }
