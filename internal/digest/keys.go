package digest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// keys sign links. The file has the newest first; each is used for a month, and
// known until the last link that it signed has ended. Who removes the file makes
// all links void.
type keys struct {
	path string
	life time.Duration // of links

	mu  sync.Mutex
	all []key // nil: not read yet
}

type key struct {
	id     string
	made   time.Time
	secret []byte
}

const (
	keyUse  = 30 * 24 * time.Hour // for how long new links are signed with one
	keySize = 32
	maxKeys = 50
)

// current returns the key for new links, made or renewed where need be.
func (k *keys) current(now time.Time) (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(); err != nil {
		return key{}, err
	}
	if len(k.all) > 0 && now.Sub(k.all[0].made) < keyUse && !now.Before(k.all[0].made.Add(-time.Hour)) {
		return k.all[0], nil
	}
	fresh := key{id: hex.EncodeToString(random(4)), made: now.UTC().Truncate(time.Second), secret: random(keySize)}
	kept := []key{fresh}
	for _, old := range k.all {
		if now.Sub(old.made) < keyUse+k.life && len(kept) < maxKeys {
			kept = append(kept, old)
		}
	}
	if err := write(k.path, kept); err != nil {
		return key{}, err
	}
	k.all = kept
	return fresh, nil
}

// find returns the key of that ID. The file is read once more where it is not
// known: another gateway may have made it.
func (k *keys) find(id string) (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for range 2 {
		if err := k.load(); err != nil {
			return key{}, err
		}
		for _, one := range k.all {
			if one.id == id {
				return one, nil
			}
		}
		k.all = nil
	}
	return key{}, errBadTicket
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand.Read never fails (Go 1.24)
	return b
}

func (k *keys) load() error {
	if k.all != nil {
		return nil
	}
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("digest: keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("digest: keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("digest: keys: others may read %s; chmod 600, or remove it for new keys", k.path)
	}
	all := []key{}
	for in := bufio.NewScanner(f); in.Scan() && len(all) < maxKeys; {
		one, err := parseKey(in.Text())
		if err != nil {
			return fmt.Errorf("digest: keys: %s: line %d: %w", k.path, len(all)+1, err)
		}
		all = append(all, one)
	}
	k.all = all
	return nil
}

func parseKey(line string) (key, error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return key{}, errors.New("want an ID, a time and a key")
	}
	made, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return key{}, err
	}
	secret, err := hex.DecodeString(words[2])
	if err == nil && len(secret) < keySize {
		err = errors.New("the key is too short")
	}
	return key{words[0], time.Unix(made, 0), secret}, err
}

// write puts the file in place whole or not at all.
func write(path string, all []key) error {
	var b bytes.Buffer
	for _, k := range all {
		fmt.Fprintf(&b, "%s %d %s\n", k.id, k.made.Unix(), hex.EncodeToString(k.secret))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".digest-key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("digest: keys: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("digest: keys: %w", err)
	}
	return nil
}
