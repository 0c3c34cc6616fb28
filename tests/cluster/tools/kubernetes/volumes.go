// The provisioner behind the default StorageClass: one folder of the node for each claim, as a local volume.
//
// Kubernetes' own hostpath provisioner makes folders that only root may enter and to which fsGroup does not apply. Local
// volumes get fsGroup from the kubelet, as a CSI driver's do, so what works here works on a real cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	provisionerName    = "blockchain.aitbc.io/local"
	provisionedBy      = "pv.kubernetes.io/provisioned-by"
	storageProvisioner = "volume.kubernetes.io/storage-provisioner"
	// Set on a claim of a class that waits for its pod once the scheduler has found that pod a node.
	selectedNode = "volume.kubernetes.io/selected-node"
)

type provisioner struct {
	client kubernetes.Interface
	claims listers.PersistentVolumeClaimLister
	// Only what this process put there is removed: its folder is the only one it ever touches.
	volumes listers.PersistentVolumeLister
	folder  string
	node    string
}

func newVolumeProvisionerCommand() *cobra.Command {
	var kubeconfig, folder, node string
	command := &cobra.Command{
		Use:   "volume-provisioner",
		Short: "Makes a folder of the node into a volume for each claim of the class " + provisionerName,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			return watch(command.Context(), client, folder, node)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&folder, "folder", "", "where the volumes' folders are made")
	command.Flags().StringVar(&node, "node", "", "the node that has this folder")
	return command
}

// Any change of a claim or volume has all of them looked at: a test cluster has few, and no event can be missed that way.
func watch(ctx context.Context, client kubernetes.Interface, folder, node string) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims()
	volumes := factory.Core().V1().PersistentVolumes()
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		UpdateFunc: func(any, any) { poke() },
	}
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	p := &provisioner{client, claims.Lister(), volumes.Lister(), folder, node}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		if err := p.reconcile(ctx); err != nil {
			klog.ErrorS(err, "will try again")
			time.AfterFunc(time.Second, poke)
		}
	}
}

func (p *provisioner) reconcile(ctx context.Context) error {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	volumes, err := p.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	var failed []error
	for _, claim := range claims {
		if claim.Annotations[storageProvisioner] != provisionerName {
			continue
		}
		if claim.Spec.VolumeName == "" {
			if claim.Annotations[selectedNode] == p.node {
				failed = append(failed, p.provision(ctx, claim))
			}
		} else {
			failed = append(failed, p.grow(ctx, claim))
		}
	}
	for _, volume := range volumes {
		released := volume.Status.Phase == core.VolumeReleased && volume.DeletionTimestamp == nil &&
			volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete
		if volume.Annotations[provisionedBy] == provisionerName && released {
			failed = append(failed, p.remove(ctx, volume))
		}
	}
	return errors.Join(failed...)
}

func (p *provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	class, err := p.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, meta.GetOptions{})
	if err != nil {
		return err
	}
	name := "pvc-" + string(claim.UID)
	if _, err := p.volumes.Get(name); err == nil {
		return nil
	}
	path := filepath.Join(p.folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	// A pod without fsGroup may write too, whatever the umask.
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	mode := core.PersistentVolumeFilesystem
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
				}}}},
			}},
		},
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	klog.InfoS("provisioned", "volume", name, "claim", klog.KObj(claim), "err", err)
	return err
}

// A folder has no size, so growing a claim is a matter of saying so.
func (p *provisioner) grow(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	wanted := claim.Spec.Resources.Requests[core.ResourceStorage]
	has, bound := claim.Status.Capacity[core.ResourceStorage]
	if !bound || wanted.Cmp(has) <= 0 {
		return nil
	}
	known, err := p.volumes.Get(claim.Spec.VolumeName)
	if err != nil {
		return err
	}
	volume := known.DeepCopy()
	volume.Spec.Capacity[core.ResourceStorage] = wanted
	if _, err := p.client.CoreV1().PersistentVolumes().Update(ctx, volume, meta.UpdateOptions{}); err != nil {
		return err
	}
	grown := claim.DeepCopy()
	grown.Status.Capacity[core.ResourceStorage] = wanted
	_, err = p.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, grown, meta.UpdateOptions{})
	klog.InfoS("grown", "claim", klog.KObj(claim), "size", wanted.String(), "err", err)
	return err
}

func (p *provisioner) remove(ctx context.Context, volume *core.PersistentVolume) error {
	path := filepath.Join(p.folder, volume.Name)
	if volume.Spec.Local == nil || volume.Spec.Local.Path != path {
		return fmt.Errorf("volume %q: expected its folder at %q", volume.Name, path)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	klog.InfoS("removed", "volume", volume.Name, "err", err)
	return err
}
