//! What machines use.

use std::time::Duration;

use quantix_host::Load;

use crate::layers::machine;

#[tokio::test]
async fn what_machines_that_are_on_use_is_told_and_of_others_nothing() {
    let (disk, libvirt) = machine().await;
    let load = async || -> Option<Load> { libvirt.loads().await.unwrap().remove(&disk.id) };
    let first = load().await.unwrap();
    assert_eq!((first.processors, first.memory), (1, None));
    assert!(first.memory_on_host.is_some_and(|bytes| bytes > 16 << 20), "{first:?}");
    // Its firmware looks for something to start, for as long as it is on.
    let busy = async || {
        let load = load().await.unwrap();
        load.cpu_seconds > first.cpu_seconds
            && load.cpu_wait_seconds.is_some()
            && load.disks.is_some_and(|disks| disks.reads > 0)
    };
    for tries in 0.. {
        if busy().await {
            break;
        }
        assert!(tries < 300, "{:?} came after {first:?}", load().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    libvirt.force_stop(disk.id).await.unwrap();
    assert!(load().await.is_none());
}
