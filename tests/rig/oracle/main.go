// What the node's own libraries make of image references and of the folder certs.d: tests hold tagpin against it.
// A line of standard input is a JSON string, a line of standard output the answer.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/distribution/reference"
)

type parsed struct {
	Domain string `json:"domain"`
	Path   string `json:"path"`
	Tag    string `json:"tag,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// parse reads a reference as the kubelet and containerd do; nil is one that they refuse.
func parse(text string) any {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil
	}
	found := parsed{Domain: reference.Domain(named), Path: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		found.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		found.Digest = digested.Digest().String()
	}
	return found
}

type host struct {
	URL    string              `json:"url"`
	Header map[string][]string `json:"header,omitempty"`
}

// resolving lists the hosts that a tag is asked of, in order; nil when the folder cannot be used.
func resolving(root string) func(string) any {
	hosts := config.ConfigureHosts(context.Background(), config.HostOptions{HostDir: config.HostDirFromRoot(root)})
	return func(registry string) any {
		found, err := hosts(registry)
		if err != nil {
			return nil
		}
		asked := []host{}
		for _, one := range found {
			if one.Capabilities.Has(docker.HostCapabilityPull | docker.HostCapabilityResolve) {
				asked = append(asked, host{URL: one.Scheme + "://" + one.Host + one.Path, Header: one.Header})
			}
		}
		return asked
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: oracle references | oracle hosts FOLDER")
		os.Exit(2)
	}
	answer := parse
	if os.Args[1] == "hosts" {
		answer = resolving(os.Args[2])
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			panic(err)
		}
		line, err := json.Marshal(answer(text))
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, string(line))
	}
}
